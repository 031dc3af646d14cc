"""Every page and every curve: of a training, of runs compared, of an evaluation, of a folder of images."""
