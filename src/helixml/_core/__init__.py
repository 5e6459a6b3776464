"""The engine: tensors, the tape they leave behind, and what an op is.

Read `tape` first; it is the whole of reverse-mode differentiation. Then `op` (how a call becomes a
node) and `tensor` (the object that users hold). Nothing in here knows any particular op or device.
"""
