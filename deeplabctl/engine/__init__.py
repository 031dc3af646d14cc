"""Arrays in, logits out, without TensorFlow: the layer tables computed on CPUs by kernels that numba compiles."""
