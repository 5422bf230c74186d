nabata_fuzz(peer_frame peer_frame.c nb_peer)
