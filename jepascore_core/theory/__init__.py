"""The theory lab: encoders trained on densities that are known exactly, and how well their scores follow (Figure 2)."""
