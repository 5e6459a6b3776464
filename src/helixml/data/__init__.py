"""Text as bytes: the plays that come with helixml, and any files of a user.

`corpus` opens texts as memory-mapped bytes; `byte_dataset` cuts them into training and held-out
windows. Vocabulary: the 256 byte values.
"""

from helixml.data.byte_dataset import ByteDataset, TrainingWindows
from helixml.data.corpus import open_plays, open_text

__all__ = ["ByteDataset", "TrainingWindows", "open_plays", "open_text"]
