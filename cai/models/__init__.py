"""Opening models, rendering conversations for them, decoding, scalar heads."""
