"""Arrays in, logits out: the layer tables, the sizes and the preprocessing, and the Keras model built from them."""
