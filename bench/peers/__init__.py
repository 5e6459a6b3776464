"""The other side: what helixml is compared with. Nothing here imports helixml."""
