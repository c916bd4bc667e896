"""The lens: the catalog as one run sees it. Engines get its address in place of the catalog's."""
