"""Networks: the U-Net, text encoder, tokenizer, and the model that joins them."""
