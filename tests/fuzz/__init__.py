"""Bytes of others for every parser that reads them: nothing but the documented errors may come out."""
