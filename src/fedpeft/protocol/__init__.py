"""What crosses the network: messages as bytes, value encodings, sums of uploads, traffic."""
