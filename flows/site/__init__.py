"""The public site: static pages about the nights and the champion, made from the registry."""
