"""The PyTorch core: tensors in, tensors out.

Nothing here knows pandas, scikit-learn or the rest of the package.
"""
