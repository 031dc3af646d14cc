"""Read data sets in VOC layout, and make the built-in one."""
