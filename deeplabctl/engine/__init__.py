"""Arrays in, logits and labels out, without TensorFlow: the tables computed on CPUs by kernels that numba compiles.

Some kernels are for training: convolutions of batches, their gradients, and the cross-entropy of upsampled logits.
"""
