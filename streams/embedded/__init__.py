"""The parts of the embedded broker (`streams.broker`): its jars, a Java, its folder, its process and who ends it."""
