"""From an image to landmarks, and from landmarks to better ones: bundle, detector, session.

Import the parts by name: the detector needs torch, the session does not.
"""
