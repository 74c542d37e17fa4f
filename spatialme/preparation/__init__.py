"""`spatialme prepare`: recordings of any origin become cached training clips and their manifest.

    input -> items (files that belong together, `items`, `lists`)
          -> shots (`shots`) -> one clip each (`mono`, `stereo`) -> files and a record (`store`)
          -> manifest.json, report.json (`run`, `report`)

Items are worked on by several processes. Each finished clip and each finished item leaves a record, so that a run that
was stopped goes on where it was; the manifest is made of the records alone, in the order of the items.
"""
