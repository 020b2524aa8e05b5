"""WebDataset shards: tar files read by index, in an order that a run can resume."""
