"""What pages share: pickers, galleries, frames, and the only cached calls."""
