"""The command ``deeplabctl eval``: of a network, of masks, and the search for CRF parameters."""
