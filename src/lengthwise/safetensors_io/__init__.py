"""Safetensors files and model folders: read, compared and written block by block, without a model in memory."""
