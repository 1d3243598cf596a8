"""What people say of images. No torch, no gradio."""
