"""Who descends from hosts' sessions, remembered while they live, and what is done about it when they are gone."""
