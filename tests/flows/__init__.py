"""The experiment on what netting holders' flows saves: a panel with the same requests under every way to meet them."""
