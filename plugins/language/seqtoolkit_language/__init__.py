"""Language modelling: any text as one contiguous stream of tokens."""
