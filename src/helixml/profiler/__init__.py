"""What a computation costs: FLOPs, bytes, time and memory, op by op and module by module.

`profile` is the block that measures. `frames` is how it comes to know of modules, and
`helixml._core.observe` of ops: nothing of either is there while no block is open. `results` is what
is made of what was seen, `trace` the file for a viewer. How FLOPs are counted stands in
`helixml._core.cost`, and what an op costs beside its definition.
"""

from helixml.profiler.profile import Profile, profile
from helixml.profiler.results import ModuleTotal, OpCall, OpTotal

__all__ = ["ModuleTotal", "OpCall", "OpTotal", "Profile", "profile"]
