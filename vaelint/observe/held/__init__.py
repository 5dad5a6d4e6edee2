"""What a watched script would leave behind, held back: its files go to a folder that is removed, and it reaches nobody."""
