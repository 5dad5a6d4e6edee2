"""Values that the data may have, over which likelihoods are added up."""
