"""The screen: the only code that imports gradio."""
