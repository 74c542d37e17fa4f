"""Training pairs: layered scenes made on the fly, 2D frames warped away and back, and cached real stereo.

Everything here runs in data workers on the CPU, without Lightning. A sample depends on its random generator alone,
which is made from the run's seed and the sample's number: the same run gives the same samples whatever the number of
workers, and goes on where it stopped.

    source.sample(random) -> Sample -> augment -> batch
      scenes   layered scenes with an exact right view
      mono     a frame taken as the right view, warped away and back
      stereo   cached clips of real pairs, branches included
"""
