"""What protects tasks learnt earlier."""
