"""The SparseLoCo gradient codec, outer step, and the small reference model and data."""
