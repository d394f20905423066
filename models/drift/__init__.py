"""The drift family: volatility, covariance, mean, excursions out of the band."""
