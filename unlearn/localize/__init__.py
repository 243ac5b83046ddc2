"""Which weights may change: one file for each localizer, all giving a `Mask`."""
