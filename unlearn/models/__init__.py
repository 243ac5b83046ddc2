"""Models: how they are loaded, run, masked, adapted and hooked; what every part of the program shares about them."""
