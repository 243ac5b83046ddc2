"""The number formats that weights can be compressed to."""

from typing import Literal

Format = Literal["int8", "int4", "nf4", "fp4"]
