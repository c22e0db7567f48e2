from command_line import lmworks as lmworks
