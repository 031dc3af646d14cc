"""The commands of ``deeplabctl data``."""
