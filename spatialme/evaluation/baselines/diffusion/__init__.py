"""What the diffusion methods share: checkpoints, latents of Stable Video Diffusion, attention, rounds and tiles."""
