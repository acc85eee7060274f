"""From a name to arrays, and from arrays to batches.

`load(name)` gives the three splits of a data set; a `Feed` turns the training split into batches that are a pure
function of (seed, step), held on the device (`device_feed`) or streamed (`stream_feed`); `prepare` makes a raw batch
what a model sees, inside the compiled step.
"""

from genlab.data.cache import directory as cache_directory
from genlab.data.dataset import Dataset, Split
from genlab.data.feed import Feed, batch_indices, device_feed, stack_feeds, stream_feed
from genlab.data.loading import load
from genlab.data.pixels import fixed_binarization, prepare

__all__ = [
    "Dataset",
    "Feed",
    "Split",
    "batch_indices",
    "cache_directory",
    "device_feed",
    "fixed_binarization",
    "load",
    "prepare",
    "stack_feeds",
    "stream_feed",
]
