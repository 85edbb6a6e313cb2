"""The PyTorch core: tensors in, tensors out.

Modules here import neither pandas nor scikit-learn, and nothing of the package but
``utils``.
"""
