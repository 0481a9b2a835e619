"""What the library costs, beside others."""
