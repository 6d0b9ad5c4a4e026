"""Vision encoders behind one protocol: vision transformers and convolutional networks of timm.

:func:`fade.encoders.load.load_vision_encoder` chooses one by name. Nothing here is imported before it
is used: scoring needs no torch.
"""
