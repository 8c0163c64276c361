"""ELC-BERT for MosaicML Composer."""
