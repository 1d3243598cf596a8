"""What people say of photographs. No torch, no gradio."""
