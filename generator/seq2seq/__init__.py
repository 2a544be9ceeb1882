"""A small encoder-decoder that operators train on their own conversations.

Trained with torch, served without it. It reads the last turns, not the passages.
"""
