"""The electronic prescription, from the doctor's card to the pharmacist's."""
