"""What a camera stream costs: CPU per frame, bytes, and PSNR against the frames as recorded."""
