"""What this machine brings: Java, jars, certificates, disk."""
