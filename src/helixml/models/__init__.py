"""Models: whole networks, their folders, and drawing from them."""

from helixml.models.mamba import MambaConfig, MambaLM
from helixml.models.pretrained import from_pretrained
from helixml.models.sampling import draw

__all__ = ["MambaConfig", "MambaLM", "draw", "from_pretrained"]
