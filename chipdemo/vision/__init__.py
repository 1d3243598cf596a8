"""The network. torch stays inside, and is imported where it is used."""
