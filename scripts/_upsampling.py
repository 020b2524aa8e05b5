"""The package `upsampler` as the pipeline takes it: the two never import each other, so scripts bring them together."""

from guidance.stage import Upsampling
from upsampler.cascade import enlarge
from upsampler.presets import EMBEDDED, check_upsampler
from upsampler.tiles import in_tiles

UPSAMPLING = Upsampling(enlarge, in_tiles, (EMBEDDED,), check_upsampler)
