"""Any Hugging Face causal language network, in a process of its own."""
