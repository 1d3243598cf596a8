"""Labels of images: journal, queue, agreement, exchange with files and the Hub. No torch, no gradio."""
